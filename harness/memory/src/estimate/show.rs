//! An estimate as a table.

use std::fmt::Write;

use super::Estimate;
use crate::bytes::Bytes;

/// One line per part, the total, and whether it fits the capacity.
pub fn text(estimate: &Estimate) -> String {
    let Estimate { model, parameters, trained, peak, total_bytes, .. } = estimate;
    let mut text = format!("{model}: {parameters} parameters, {trained} of them trained; peak in {peak}\n\n");
    for part in estimate.parts.iter().filter(|part| part.bytes > 0) {
        line(&mut text, &part.name, part.bytes, &part.of);
    }
    line(&mut text, "total", *total_bytes, "");
    if let Some(capacity) = estimate.capacity_bytes {
        let (verdict, apart) =
            if estimate.fits { ("fits, with a remainder of", "") } else { ("does not fit:", " over") };
        let difference = Bytes(capacity.abs_diff(*total_bytes));
        line(&mut text, "capacity", capacity, &format!("{verdict} {difference}{apart}"));
    }
    if !estimate.savings.is_empty() {
        text.push_str("\nChanges that need less memory:\n");
    }
    for saving in &estimate.savings {
        let total = Bytes(saving.total_bytes).to_string();
        let fits = if saving.fits { "fits" } else { "does not fit" };
        // Writing to a string does not fail.
        let _ = writeln!(text, "  {total:>10}   {fits:<12}   {}", saving.change);
    }
    text.push_str(
        "\nNot included, because it does not follow from the architecture: the CUDA context, workspaces, \
                   fragmentation.\n",
    );
    text
}

fn line(text: &mut String, name: &str, bytes: u64, of: &str) {
    let line = format!("  {name:<12} {:>10}   {of}", Bytes(bytes).to_string());
    // Writing to a string does not fail.
    let _ = writeln!(text, "{}", line.trim_end());
}
