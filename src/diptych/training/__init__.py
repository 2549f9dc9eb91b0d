"""Method and batches -> a run folder. Nothing here knows a term or a method by name."""
