//! The lines of a scenario file that messages point to.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::read::line_of;

/// The line of what stands under the top-level `key`: of the last string `name` below it, where one is given and there, else
/// of the whole. 1 where the key is missing.
pub(super) fn line(text: &str, key: &str, name: Option<&str>) -> usize {
    let table = DeTable::parse(text).ok();
    let value = table.as_ref().and_then(|table| table.get_ref().get(key));
    let found = value.map(|value| name.and_then(|name| last(value, name)).unwrap_or(value));
    line_of(text, found.map(Spanned::span))
}

fn last<'a, 'i>(value: &'a Spanned<DeValue<'i>>, name: &str) -> Option<&'a Spanned<DeValue<'i>>> {
    match value.get_ref() {
        DeValue::String(found) => (found == name).then_some(value),
        DeValue::Array(items) => items.iter().rev().find_map(|item| last(item, name)),
        DeValue::Table(fields) => {
            let found = fields.iter().filter_map(|(_, field)| last(field, name));
            found.max_by_key(|field| field.span().start)
        }
        _ => None,
    }
}
