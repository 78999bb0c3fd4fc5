"""Train again: from images to the probabilities and masks that were published.

`datasets` has images and labels, `run_config` the configuration and its tasks, `plan` the plan file
and `task_files` the files of a task. `task_runner` runs tasks, `parallel_runner` several at a time,
`slurm` on a cluster, and `merge_folds` merges what they predicted. `recipes` has the trainings by
name, `fast` and `paper`, and `coteaching` that for `kept_sets`; all are built on `training`.
"""
