"""The owners of a name: whether they live, how they are stopped, when their record is closed."""
