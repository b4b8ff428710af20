//! What the whole-program tests share: starting the executable, killing it, comparing digests.
