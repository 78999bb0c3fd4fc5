"""From images to probabilities and masks: what was published, made again.

`sources` gives images and labels, `plan` the tasks, `recipes` the trainings by name (`fast`,
`paper`; `coteaching` for kept sets), `engine` runs the tasks. What all trainings share is in
`training`, what those of one network share in `classifier`.
torch is imported in here only.
"""
