//! Every SQL statement, the private PostgreSQL cluster, and the progress bus.
