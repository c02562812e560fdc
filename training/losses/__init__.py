"""Losses of stage one, one a file. `training.losses.ride` adds them up."""
