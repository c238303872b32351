"""What every other package stands on: types, checks, threads, memory, tables and published figures."""
