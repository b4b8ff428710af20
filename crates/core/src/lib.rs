//! Seedfarm's vocabulary and its pure decisions: no IO, no async, no clock, no randomness.
