//! The names that someone may have meant by a name that is not there.

/// At most three of `names`, the likeliest first; none that shares no letter with `wanted`.
pub fn nearest<'a>(wanted: &str, names: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let mut ranked: Vec<(f64, &str)> = names
        .into_iter()
        .map(|name| (strsim::jaro_winkler(wanted, name), name))
        .collect();
    ranked.retain(|(likeness, _)| *likeness > 0.0);
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    ranked.dedup_by_key(|(_, name)| *name);
    ranked.into_iter().take(3).map(|(_, name)| name).collect()
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
        assert_eq!(nearest("resum", names)[..2], ["resume-twice", "resume-mid-window"]);
        assert_eq!(nearest("zzz", names), [""; 0]);
        assert_eq!(nearest("no-such", names).len(), 3);
        assert!(hint("torn", names).starts_with("; nearest: torn-checkpoint"));
    }
}
