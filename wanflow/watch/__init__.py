"""A read-only page over a folder of runs: what runs now, what is finished, batches. No torch.

`Shelf` knows what runs there are, `Readings` follows their traces, `page_app` answers requests,
`serve` listens.
"""
