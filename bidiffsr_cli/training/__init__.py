"""Training: from pictures to a checkpoint, stoppable at any time."""
