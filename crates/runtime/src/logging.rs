//! Logs on standard error: for people on a terminal, or a JSON object a line for machines.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::RuntimeError;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people; coloured on a terminal unless `NO_COLOR` is set.
    #[default]
    Human,
    /// One JSON object a line.
    Json,
}

/// Starts logging for the whole process; a second call changes nothing.
///
/// The first of `variables` that is set and not empty is the filter; without any it is `default`.
///
/// # Errors
/// [`RuntimeError::NotAFilter`] if that variable holds no filter.
pub fn init(format: LogFormat, variables: &[&str], default: &str) -> Result<(), RuntimeError> {
    let filter = filter(variables, default, |name| std::env::var(name).ok())?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // A reader that went away must not end the process: reporting it would panic.
        .log_internal_errors(false);
    let started = match format {
        LogFormat::Human => builder.with_ansi(coloured()).compact().try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    // The only failure is that another logger stands already.
    started.unwrap_or_default();
    Ok(())
}

fn coloured() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

fn filter(
    variables: &[&str],
    default: &str,
    lookup: impl Fn(&str) -> Option<String>,
) -> Result<EnvFilter, RuntimeError> {
    let set = variables
        .iter()
        .find_map(|name| Some((*name, lookup(name).filter(|value| !value.trim().is_empty())?)));
    let (variable, given) = set.unwrap_or(("default", default.to_owned()));
    EnvFilter::try_new(&given).map_err(|_| RuntimeError::NotAFilter { variable: variable.to_owned(), given })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(values: &[(&str, &str)]) -> Result<String, RuntimeError> {
        let lookup =
            |name: &str| values.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        filter(&["OURS", "RUST_LOG"], "info", lookup).map(|filter| filter.to_string())
    }

    #[test]
    fn the_first_variable_that_is_set_decides_and_an_empty_one_does_not() {
        assert_eq!(with(&[]).unwrap(), "info");
        assert_eq!(with(&[("RUST_LOG", "debug")]).unwrap(), "debug");
        assert_eq!(with(&[("RUST_LOG", "debug"), ("OURS", "warn")]).unwrap(), "warn");
        assert_eq!(with(&[("RUST_LOG", "debug"), ("OURS", " ")]).unwrap(), "debug");
    }

    #[test]
    fn a_bad_filter_is_named_with_its_variable() {
        let error = with(&[("OURS", "seedfarm=loudly")]).unwrap_err();
        assert!(error.to_string().starts_with("OURS='seedfarm=loudly' is not a log filter"), "{error}");
    }
}
