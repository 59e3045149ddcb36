"""One run in its workdir: train, evaluate, calibrate, pool folds."""
