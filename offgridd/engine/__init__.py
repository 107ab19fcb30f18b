"""What runs in a worker process, one a model. The daemon imports of it `engine.wire` alone."""
