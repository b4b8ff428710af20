//! Which family of models an adapter was made for, told by the widths of its tensors.

use std::fmt;

/// A family of models whose layers have the same widths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AdapterFamily {
    /// Stable Diffusion 1.
    Sd1,
    /// Stable Diffusion 2.
    Sd2,
    /// Stable Diffusion XL.
    Sdxl,
}

/// Families by the width of the text that their UNet looks at.
const TEXT_WIDTHS: [(usize, AdapterFamily); 3] =
    [(768, AdapterFamily::Sd1), (1024, AdapterFamily::Sd2), (2048, AdapterFamily::Sdxl)];

impl AdapterFamily {
    /// The family's short name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sd1 => "SD1",
            Self::Sd2 => "SD2",
            Self::Sdxl => "SDXL",
        }
    }

    /// The family's name in manifests of models.
    pub(super) const fn of_models(self) -> &'static str {
        match self {
            Self::Sd1 => "stable-diffusion",
            Self::Sd2 => "stable-diffusion-2",
            Self::Sdxl => "stable-diffusion-xl",
        }
    }

    /// The family whose UNet looks at a text of this width.
    pub(super) fn of_text_width(width: usize) -> Option<Self> {
        TEXT_WIDTHS.iter().find(|(known, _)| *known == width).map(|(_, family)| *family)
    }

    /// The family whose text encoders have these widths.
    pub(super) fn of_encoder_widths(widths: &[usize]) -> Option<Self> {
        Self::of_text_width(widths.iter().sum())
    }
}

impl fmt::Display for AdapterFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The family's name with the width of its text, or the width alone.
pub(super) fn of_text(width: usize) -> String {
    match AdapterFamily::of_text_width(width) {
        Some(family) => format!("{family} (texts {width} wide)"),
        None => format!("texts {width} wide"),
    }
}
