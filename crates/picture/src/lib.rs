//! The picture file: PNG with its recipe inside, pixel digests, comparison, contact sheets.
