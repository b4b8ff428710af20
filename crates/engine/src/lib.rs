//! Diffusion on candle: (Recipe, device) to pixels and fingerprint, synchronous.
