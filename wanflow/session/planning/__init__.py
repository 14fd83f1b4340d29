"""Programs to a plan and what is said of it: report, sweep, explanation, advice, replay."""
