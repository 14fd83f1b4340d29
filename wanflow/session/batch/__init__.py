"""Many rows of one graph: read, put in order, run one after another, gone on with, told. No torch.

`rows_file` reads a row at a time, `row_queue` says whose turn it is, `batch_folder` what is done,
`text_pass` encodes the prompts of many rows at once, `seat` runs rows on a device, `batch` drives.
"""
