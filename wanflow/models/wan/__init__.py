"""The upstream forwards of Wan's models cut into calls, whole or by rows and strips."""
