//! The command line as users see it, pinned: a change shows in review.

use clap::CommandFactory;

use super::Cli;

/// Wide enough for any help text to be wrapped as on a common terminal.
const WIDTH: usize = 100;

#[test]
fn the_command_line_holds_together() {
    Cli::command().debug_assert();
}

#[test]
fn every_help_text_is_as_it_was() {
    let mut program = Cli::command().term_width(WIDTH);
    program.build();
    pin(&mut program, "seedfarm");
}

/// Pins the help of a command and of those below it.
fn pin(command: &mut clap::Command, name: &str) {
    let help = command.render_long_help().to_string();
    let lines: Vec<&str> = help.lines().map(str::trim_end).collect();
    insta::assert_snapshot!(name, lines.join("\n"));
    for below in command.get_subcommands_mut().filter(|below| below.get_name() != "help") {
        let name = format!("{name}-{}", below.get_name());
        pin(below, &name);
    }
}
