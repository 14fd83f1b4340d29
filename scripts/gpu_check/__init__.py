"""What wanflow promises of a card, measured on the one that is here."""
