"""What is carried out: one file a kind of job."""
