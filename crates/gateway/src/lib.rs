//! HTTP surfaces over the coordinator's gRPC: REST, pictures and a page to look at.
