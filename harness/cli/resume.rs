//! The words of `--resume`: a command in one text, which no shell reads.

use std::ffi::OsString;
use std::path::Path;

/// Programs whose own arguments are for a shell.
const SHELLS: [&str; 5] = ["sh", "bash", "dash", "zsh", "fish"];

/// The command in words. An error where it says something that only a shell understands: taken word by word, the script
/// would fail, and its checkpoints would be blamed.
pub fn words(command: &str) -> Result<Vec<OsString>, String> {
    let words = shlex::split(command).filter(|words| !words.is_empty());
    let words = words.ok_or_else(|| format!("--resume: {command:?} is not a command"))?;
    let program = Path::new(&words[0]).file_name().and_then(|name| name.to_str());
    if !program.is_some_and(|name| SHELLS.contains(&name))
        && let Some(word) = words.iter().enumerate().find_map(|(at, word)| of_a_shell(at == 0, word))
    {
        return Err(format!(
            "--resume: {word:?} means something to a shell, and none reads this command: write sh -c '…', or env NAME=VALUE in \
             front of it"
        ));
    }
    Ok(words.into_iter().map(OsString::from).collect())
}

fn of_a_shell(is_first: bool, word: &str) -> Option<&str> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let expands =
        word.split('$').skip(1).any(|rest| rest.starts_with(|c| is_name(c) || c == '{' || c == '('));
    let assigns = is_first && word.split_once('=').is_some_and(|(name, _)| name.chars().all(is_name));
    let joins = ["|", "||", "&&", ";", "&", ">", ">>", "<"].contains(&word);
    (expands || assigns || joins).then_some(word)
}
