"""Training: from pictures to a checkpoint, stoppable and resumable at any time."""
