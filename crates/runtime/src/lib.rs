//! Process plumbing without a domain word: logging, shutdown, TLS, listening.
