"""PostgreSQL: the pool, the models and the migrations."""
