"""The worker: runs the workflows, keeps the serving actor up, and watches MLflow for promotions."""
