//! The names that someone may have meant by a name that is not there.

/// At most three of `names`: the likeliest, and those that are about as likely. None where nothing shares a letter.
pub fn nearest<'a>(wanted: &str, names: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    const ABOUT_AS_LIKELY: f64 = 0.9;
    let likeness = |name| strsim::jaro_winkler(wanted, name);
    let mut ranked: Vec<(f64, &str)> = names.into_iter().map(|name| (likeness(name), name)).collect();
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    ranked.dedup_by_key(|(_, name)| *name);
    let least = ranked.first().map_or(0.0, |(best, _)| best * ABOUT_AS_LIKELY);
    ranked.into_iter().filter(|(it, _)| *it > 0.0 && *it >= least).take(3).map(|(_, name)| name).collect()
}

/// [`nearest`] as the end of a message: `; nearest: a, b`, or nothing.
pub fn hint<'a>(wanted: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    match nearest(wanted, names).as_slice() {
        [] => String::new(),
        near => format!("; nearest: {}", near.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_likeliest_names_come_first_and_strangers_not_at_all() {
        let names = ["resume-mid-window", "resume-twice", "scheduler-steps", "torn-checkpoint"];
        assert_eq!(nearest("resum", names), ["resume-twice", "resume-mid-window"]);
        assert_eq!(nearest("zzz", names), [""; 0]);
        assert!(!nearest("no-such", names).is_empty());
        assert_eq!(hint("torn", names), "; nearest: torn-checkpoint");
    }
}
