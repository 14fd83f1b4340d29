"""What a reader wants to see, drawn into docs/figures: `make figures`."""
