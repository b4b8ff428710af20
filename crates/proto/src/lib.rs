//! The wire: generated gRPC types, conversions to and from core, error codes.
