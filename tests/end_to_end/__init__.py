"""The real service as a process, from publishing to the downloaded checkpoint."""
