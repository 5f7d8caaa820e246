//! The command that shows a finding again.

/// The command line of `traintrue` with these arguments, quoted for a shell.
pub fn command<'a>(arguments: impl IntoIterator<Item = &'a String>) -> String {
    let words = std::iter::once("traintrue").chain(arguments.into_iter().map(String::as_str));
    // An argument of a command line holds no NUL, which is all that cannot be quoted.
    shlex::try_join(words).unwrap_or_default()
}
