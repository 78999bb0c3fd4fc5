"""From images to probabilities and masks: what was published, made again.

`sources` gives images and labels, `plan` the tasks, `layout` their files, `recipes` the trainings
by name (`fast`, `paper`; `coteaching` for `kept_sets`), built on `training` and, of one network, on
`classifier`. `engine` runs tasks and `collecting` combines them; `slots` runs several at a time,
and `slurm` lets a cluster do it. torch is imported in here only.
"""
