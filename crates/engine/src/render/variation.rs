//! Variation seeds: the first noise turned from one seed's towards another's.
//!
//! The rule is that of the AUTOMATIC1111 web interface: every column of every channel is turned on its own,
//! by spherical interpolation along its rows. Sums run down the column in f64; the result is rounded once.

/// Least mean cosine between the columns at which they are taken for parallel.
const PARALLEL: f64 = 0.9995;

/// Turns `from` towards `to` by `strength` (0 leaves `from`, 1 gives `to`): both `[channels, h, w]` in
/// row-major order with `channels * h` being a multiple of `height`.
pub(super) fn turn(from: &[f32], to: &[f32], strength: f64, height: usize, width: usize) -> Vec<f32> {
    let columns: Vec<Column> = (0..from.len() / height)
        .map(|index| {
            let (channel, column) = (index / width, index % width);
            let rows = (0..height).map(|row| (channel * height + row) * width + column);
            Column::between(rows.map(|place| (f64::from(from[place]), f64::from(to[place]))))
        })
        .collect();
    let mean = columns.iter().map(|column| column.cosine).sum::<f64>() / columns.len() as f64;
    let value = |(place, (from, to)): (usize, (&f32, &f32))| {
        let column = &columns[place / (height * width) * width + place % width];
        let (of_from, of_to) =
            if mean > PARALLEL { (strength, 1.0 - strength) } else { column.factors(strength) };
        (of_from * f64::from(*from) + of_to * f64::from(*to)) as f32
    };
    from.iter().zip(to).enumerate().map(value).collect()
}

/// The angle between two columns.
struct Column {
    cosine: f64,
}

impl Column {
    fn between(pairs: impl Iterator<Item = (f64, f64)>) -> Self {
        let (mut dot, mut from_square, mut to_square) = (0.0, 0.0, 0.0);
        for (from, to) in pairs {
            dot += from * to;
            from_square += from * from;
            to_square += to * to;
        }
        let cosine = dot / (from_square.sqrt() * to_square.sqrt());
        // A column of zeros has no direction; nothing is turned.
        Self { cosine: if cosine.is_nan() { 1.0 } else { cosine.clamp(-1.0, 1.0) } }
    }

    fn factors(&self, strength: f64) -> (f64, f64) {
        let angle = libm::acos(self.cosine);
        let sine = libm::sin(angle);
        if sine == 0.0 {
            return (1.0, 0.0);
        }
        (libm::sin((1.0 - strength) * angle) / sine, libm::sin(strength * angle) / sine)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FROM: [f32; 12] = [1.0, 2.0, 3.0, -4.0, 0.5, 0.25, -1.0, 0.0, 2.0, 2.0, 1.0, -3.0];
    const TO: [f32; 12] = [2.0, -1.0, 0.0, 1.0, 1.5, 1.25, 1.0, 1.0, -2.0, 0.5, 0.0, 3.0];

    /// PyTorch in f64, with `slerp` of the web interface's `modules/rng.py` on tensors of `[2, 3, 2]`:
    /// `slerp(0.3, from.double(), to.double()).flatten().tolist()`.
    const TURNED: [f64; 12] = [
        1.5650243931831718,
        1.8373390059160029,
        2.408456842181015,
        -4.5377321487101625,
        0.9730635580389609,
        1.4163668139469658,
        -0.5294038222384636,
        0.8946313552151799,
        1.0588076444769272,
        3.2158045190878983,
        2.3141720926350113,
        -1.4688391965749221,
    ];

    #[test]
    fn noise_turns_as_in_the_web_interface() {
        let turned = turn(&FROM, &TO, 0.3, 3, 2);
        for (ours, theirs) in turned.iter().zip(TURNED) {
            assert!((f64::from(*ours) - theirs).abs() < 1e-6, "{ours} is not {theirs}");
        }
    }

    #[test]
    fn no_strength_leaves_the_noise_and_equal_noise_stays() {
        assert_eq!(turn(&FROM, &TO, 0.0, 3, 2), FROM);
        assert_eq!(turn(&FROM, &FROM, 0.3, 3, 2), FROM);
    }
}
