"""From images to probabilities and masks: what was published, made again.

`sources` gives images and labels, `plan` the tasks, `fast` the training, `engine` runs the tasks.
torch is imported in here only.
"""
