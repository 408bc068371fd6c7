-- One database for each user of the server: MLflow, the durable workflows; longtail's own is the default user's.
CREATE DATABASE mlflow;
CREATE DATABASE durable;
