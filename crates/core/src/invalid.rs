//! What can be wrong with a request, each with the value, the limit and the way out.

use crate::limits;

/// A request that is refused whole.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Invalid {
    /// A fault in one line of a prompt file.
    #[error("line {line}: {fault}")]
    AtLine {
        /// Line number, from 1.
        line: usize,
        /// What is wrong there.
        fault: Box<Invalid>,
    },
    /// The prompt file holds nothing to render.
    #[error(
        "the prompt file holds no prompt: give one prompt a line, as text or as JSON such as {{\"prompt\": \"a red apple\"}}"
    )]
    NoPrompts,
    /// The prompt file is not text.
    #[error("byte {byte} is not valid UTF-8: save the prompt file as UTF-8")]
    NotUtf8 {
        /// Offset in the line, from 0.
        byte: usize,
    },
    /// A JSON line that cannot be read.
    #[error("not a prompt line: {reason}; `seedfarm submit --help` lists the keys")]
    NotAPromptLine {
        /// The JSON reader's own words.
        reason: String,
    },
    /// Too many prompts in one job.
    #[error("{given} prompts are more than the {limit} that one job may hold: split the file")]
    TooManyPrompts {
        /// How many were given.
        given: usize,
        /// The limit.
        limit: usize,
    },
    /// Too many images in one job.
    #[error(
        "{given} images are more than the {limit} that one job may ask for: lower count or split the file"
    )]
    TooManyImages {
        /// Prompts times count.
        given: u64,
        /// The limit.
        limit: u64,
    },
    /// No image at all.
    #[error("count 0 asks for no image: give at least 1")]
    NoImages,
    /// A text is too long.
    #[error("{field} is {given} bytes long, more than the limit of {limit}: shorten it")]
    TooLong {
        /// Which text.
        field: &'static str,
        /// Its length in bytes.
        given: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// A text holds a NUL character.
    #[error("{field} holds a NUL character: remove it")]
    HoldsNul {
        /// Which text.
        field: &'static str,
    },
    /// Width or height is no multiple of the model's step.
    #[error("{field} {given} is not a multiple of {multiple}: use {below} or {above}")]
    NotAMultiple {
        /// `width` or `height`.
        field: &'static str,
        /// What was given, in pixels.
        given: u32,
        /// The model's step, in pixels.
        multiple: u32,
        /// The nearest smaller size that would do.
        below: u32,
        /// The nearest larger size that would do.
        above: u32,
    },
    /// Width or height is out of range.
    #[error("{field} {given} is outside {least} to {most} pixels")]
    SideOutOfRange {
        /// `width` or `height`.
        field: &'static str,
        /// What was given, in pixels.
        given: u32,
        /// The smallest side.
        least: u32,
        /// The largest side.
        most: u32,
    },
    /// Steps out of range.
    #[error("steps {given} is outside 1 to {most}")]
    StepsOutOfRange {
        /// What was given.
        given: u32,
        /// The limit.
        most: u32,
    },
    /// A noise schedule, or what a recipe says of sampling, that cannot be computed.
    #[error("the noise schedule cannot be used: {reason}")]
    NoiseSchedule {
        /// What is wrong, with the value and the limit.
        reason: String,
    },
    /// Guidance is not a number in range.
    #[error("guidance {given} is outside {least} to {most} (1 switches guidance off)", least = limits::MIN_GUIDANCE, most = limits::MAX_GUIDANCE)]
    GuidanceOutOfRange {
        /// What was given, as text, because it may be no number at all.
        given: String,
    },
    /// A number is out of range.
    #[error("{field} {given} is outside {least} to {most}")]
    NumberOutOfRange {
        /// Which setting.
        field: &'static str,
        /// What was given, as text, because it may be no number at all.
        given: String,
        /// The smallest.
        least: f64,
        /// The largest.
        most: f64,
    },
    /// Too many of something in one image.
    #[error("{given} {field} are more than the {most} that one image may use")]
    TooManyOf {
        /// Of what.
        field: &'static str,
        /// How many were given.
        given: usize,
        /// The limit.
        most: usize,
    },
    /// An adapter that nobody has.
    #[error("the {kind} '{given}' is unknown; {known}")]
    UnknownAdapter {
        /// `lora`, `embedding` or `control`.
        kind: &'static str,
        /// The name or digest.
        given: String,
        /// What is known instead.
        known: String,
    },
    /// Several adapters of one name.
    #[error("{count} different {kind}s are called '{given}': give one by its digest ({digests})")]
    AmbiguousAdapter {
        /// `lora`, `embedding` or `control`.
        kind: &'static str,
        /// The name.
        given: String,
        /// How many there are.
        count: usize,
        /// Their digests, separated by commas.
        digests: String,
    },
    /// An adapter was made for another family of models.
    #[error("the {kind} '{given}' was made for {made_for}, but the model is {model}")]
    OtherFamily {
        /// `lora`, `embedding` or `control`.
        kind: &'static str,
        /// The name or digest.
        given: String,
        /// The adapter's family.
        made_for: String,
        /// The model's family.
        model: String,
    },
    /// A picture that is not there.
    #[error("the picture {given} is not on the farm: upload it first, with `seedfarm upload FILE`")]
    UnknownPicture {
        /// Its digest or path.
        given: String,
    },
    /// A picture of another size than the image.
    #[error(
        "the {field} is {given} pixels, but the image is {wanted}: bring it to that size, or change width and height"
    )]
    PictureSize {
        /// `source`, `mask` or `control picture`.
        field: &'static str,
        /// Width x height of the picture.
        given: String,
        /// Width x height of the image.
        wanted: String,
    },
    /// So small a strength that no step is left.
    #[error(
        "strength {given} leaves none of {steps} steps to be sampled: give more steps, or a strength of at least {least}"
    )]
    NothingToSample {
        /// What was given.
        given: f64,
        /// The steps asked for.
        steps: u32,
        /// What would leave one step.
        least: f64,
    },
    /// A model that fills in pictures was asked for something else, or the reverse.
    #[error("{0}")]
    WrongUse(String),
    /// Priority out of range.
    #[error("priority {given} is outside -{most} to {most}", most = limits::MAX_PRIORITY)]
    PriorityOutOfRange {
        /// What was given.
        given: i32,
    },
    /// A name of a tenant or a tag that is none.
    #[error("{field} '{given}' is not a name: use 1 to {most} of a-z, 0-9 and -_.:", most = limits::MAX_SHORT_NAME_BYTES)]
    NotAName {
        /// `tenant` or `tag`.
        field: &'static str,
        /// What was given, or its beginning.
        given: String,
    },
    /// Too many of something in a job's terms.
    #[error("{given} {field} are more than the {most} that one job may name")]
    TooManyTerms {
        /// Of what.
        field: &'static str,
        /// How many were given.
        given: usize,
        /// The limit.
        most: usize,
    },
    /// A term that would never let the job run.
    #[error("{field} 0 would never let the job run: give at least 1, or leave it out")]
    ZeroTerm {
        /// Which term.
        field: &'static str,
    },
    /// A seed that does not fit 64 bits.
    #[error("seed '{given}' is not a whole number from 0 to 18446744073709551615")]
    SeedOutOfRange {
        /// What was given.
        given: String,
    },
    /// The seed policy `explicit` needs a seed on every line.
    #[error(
        "the seed policy 'explicit' needs a seed on every line: add \"seed\" or choose sequential, derived or fixed"
    )]
    SeedMissing,
    /// A line has a seed, but the policy would not use it.
    #[error(
        "this line has a seed, which the seed policy '{policy}' would ignore: use --seed-policy explicit, or remove it"
    )]
    SeedIgnored {
        /// The policy in force.
        policy: &'static str,
    },
    /// A word that is none of a list.
    #[error("{field} '{given}' is unknown: choose one of {known}")]
    UnknownChoice {
        /// Which setting.
        field: &'static str,
        /// What was given.
        given: String,
        /// The choices, separated by commas.
        known: String,
    },
    /// A recipe that this version cannot read without loss.
    #[error("this is not a recipe that this version of Seedfarm can render: {reason}")]
    NotARecipe {
        /// Why.
        reason: String,
    },
}

impl Invalid {
    /// The same fault, at a line of the prompt file (from 1).
    pub fn at_line(self, line: usize) -> Self {
        Self::AtLine { line, fault: Box::new(self) }
    }

    /// A short stable name of the fault for programs, in `UPPER_SNAKE_CASE`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::AtLine { fault, .. } => fault.code(),
            Self::NoPrompts => "NO_PROMPTS",
            Self::NotUtf8 { .. } => "NOT_UTF8",
            Self::NotAPromptLine { .. } => "NOT_A_PROMPT_LINE",
            Self::TooManyPrompts { .. } => "TOO_MANY_PROMPTS",
            Self::TooManyImages { .. } => "TOO_MANY_IMAGES",
            Self::NoImages => "NO_IMAGES",
            Self::TooLong { .. } => "TEXT_TOO_LONG",
            Self::HoldsNul { .. } => "TEXT_HOLDS_NUL",
            Self::NotAMultiple { .. } => "SIZE_NOT_A_MULTIPLE",
            Self::SideOutOfRange { .. } => "SIZE_OUT_OF_RANGE",
            Self::StepsOutOfRange { .. } => "STEPS_OUT_OF_RANGE",
            Self::NoiseSchedule { .. } => "NOISE_SCHEDULE",
            Self::GuidanceOutOfRange { .. } => "GUIDANCE_OUT_OF_RANGE",
            Self::NumberOutOfRange { .. } => "NUMBER_OUT_OF_RANGE",
            Self::TooManyOf { .. } => "TOO_MANY_OF",
            Self::UnknownAdapter { .. } => "UNKNOWN_ADAPTER",
            Self::AmbiguousAdapter { .. } => "AMBIGUOUS_ADAPTER",
            Self::OtherFamily { .. } => "OTHER_FAMILY",
            Self::UnknownPicture { .. } => "UNKNOWN_PICTURE",
            Self::PictureSize { .. } => "PICTURE_SIZE",
            Self::NothingToSample { .. } => "NOTHING_TO_SAMPLE",
            Self::WrongUse(_) => "WRONG_USE",
            Self::PriorityOutOfRange { .. } => "PRIORITY_OUT_OF_RANGE",
            Self::NotAName { .. } => "NOT_A_NAME",
            Self::TooManyTerms { .. } => "TOO_MANY_TERMS",
            Self::ZeroTerm { .. } => "ZERO_TERM",
            Self::SeedOutOfRange { .. } => "SEED_OUT_OF_RANGE",
            Self::SeedMissing => "SEED_MISSING",
            Self::SeedIgnored { .. } => "SEED_IGNORED",
            Self::UnknownChoice { .. } => "UNKNOWN_CHOICE",
            Self::NotARecipe { .. } => "NOT_A_RECIPE",
        }
    }

    /// The line of the prompt file at fault, from 1.
    pub fn line(&self) -> Option<usize> {
        match self {
            Self::AtLine { line, .. } => Some(*line),
            _ => None,
        }
    }
}

/// Checks a text against a length limit and for NUL, which PostgreSQL cannot store.
pub(crate) fn check_text(field: &'static str, text: &str, limit: usize) -> Result<(), Invalid> {
    if text.len() > limit {
        return Err(Invalid::TooLong { field, given: text.len(), limit });
    }
    if text.contains('\0') {
        return Err(Invalid::HoldsNul { field });
    }
    Ok(())
}
