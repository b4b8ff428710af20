//! Strict numerics: operations in an order the specification fixes, and counter-based noise.
