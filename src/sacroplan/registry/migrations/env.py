"""Run by Alembic inside the connection that :mod:`sacroplan.registry.database` hands over."""

from alembic import context

from sacroplan.registry.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata(),
    transactional_ddl=True,
)
context.run_migrations()
