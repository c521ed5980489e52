"""Changes of a Job: pure functions from Job to Job, one kind of change a file."""
