//! The collator: from samples to padded rows with labels. Truncation keeps the last token, so that `eos` is still learnt.

use traintrue_protocol::plan::{Data, Padding, PaddingPolicy, Side, Tokens};

use super::batch::{Batch, Counts, Rows};

/// The parts of the collator.
#[derive(Clone, Copy)]
pub struct CollateParts {
    /// Cuts a sample to this many tokens. The last token stays, so that the end of a text is learnt.
    pub truncate: fn(sample: &[u32], max_length: usize) -> Vec<u32>,
    /// The side that pads are put on.
    pub side: fn(&Padding) -> Side,
    /// The width of a batch whose longest row has this many tokens.
    pub width: fn(longest: usize, padding: &Padding, max_length: usize) -> usize,
    /// Which positions of a padded row are supervised: those with a token, and a token next.
    pub supervised: fn(ids: &[u32], real: &[bool], tokens: &Tokens) -> Vec<bool>,
    /// The token that a supervised position is to predict: the next.
    pub target: fn(ids: &[u32], at: usize) -> Option<u32>,
    /// The index of each token within its sample, whatever the padding.
    pub positions: fn(real: &[bool]) -> Vec<u32>,
}

impl Default for CollateParts {
    fn default() -> Self {
        Self {
            truncate: keeping_the_last,
            side: |padding| padding.side,
            width,
            supervised: next_is_a_token,
            target: |ids, at| ids.get(at + 1).copied(),
            positions: counted_over_tokens,
        }
    }
}

/// The width of a batch whose longest row, after truncation, has so many tokens.
pub fn width(longest: usize, padding: &Padding, max_length: usize) -> usize {
    let width = match padding.policy {
        PaddingPolicy::Longest => longest.max(1),
        PaddingPolicy::MaxLength => max_length,
    };
    width.next_multiple_of(padding.multiple_of as usize)
}

fn next_is_a_token(_ids: &[u32], real: &[bool], _tokens: &Tokens) -> Vec<bool> {
    (0..real.len()).map(|at| real[at] && real.get(at + 1).copied().unwrap_or(false)).collect()
}

fn counted_over_tokens(real: &[bool]) -> Vec<u32> {
    let mut seen = 0_u32;
    real.iter()
        .map(|&real| {
            seen += u32::from(real);
            seen.saturating_sub(1)
        })
        .collect()
}

/// Collates some of the samples of `from` into one batch. With `contrastive`, each sample also gives a positive and a
/// negative row.
pub fn collate(
    parts: &CollateParts,
    data: &Data,
    from: &[Vec<u32>],
    padding: &Padding,
    samples: &[u64],
    contrastive: bool,
) -> Batch {
    let anchors: Vec<Vec<u32>> =
        samples.iter().map(|&id| (parts.truncate)(&from[id as usize], data.max_length as usize)).collect();
    let rows = pad(parts, data, padding, &with_views(&anchors, contrastive));
    let mut targets = Vec::with_capacity(anchors.len() * rows.width);
    for row in 0..anchors.len() {
        let span = row * rows.width..(row + 1) * rows.width;
        let ids = &rows.ids[span.clone()];
        let supervised = (parts.supervised)(ids, &rows.real[span], &data.tokens);
        targets.extend(
            (0..rows.width)
                .map(|at| supervised[at].then(|| (parts.target)(ids, at).unwrap_or(data.tokens.pad))),
        );
    }
    let counts = Counts {
        micro_batches: 1,
        rows: rows.count as u64,
        positions: (rows.count * rows.width) as u64,
        tokens: rows.real.iter().filter(|&&real| real).count() as u64,
        targets: targets.iter().flatten().count() as u64,
        samples: anchors.iter().filter(|anchor| !anchor.is_empty()).count() as u64,
    };
    Batch { samples: samples.to_vec(), rows, targets, counts }
}

/// The first tokens of a sample that is too long, and its last.
fn keeping_the_last(sample: &[u32], max_length: usize) -> Vec<u32> {
    if sample.len() <= max_length {
        return sample.to_vec();
    }
    let mut cut = sample[..max_length].to_vec();
    cut[max_length - 1] = sample[sample.len() - 1];
    cut
}

/// Anchors, then positives, then negatives, all of the anchor's length. A positive is the anchor's text rotated by one
/// token, a negative is the text reversed. The first and last token stay.
fn with_views(anchors: &[Vec<u32>], contrastive: bool) -> Vec<Vec<u32>> {
    let mut rows = anchors.to_vec();
    if contrastive {
        rows.extend(anchors.iter().map(|anchor| view(anchor, |text| text.rotate_left(text.len().min(1)))));
        rows.extend(anchors.iter().map(|anchor| view(anchor, <[u32]>::reverse)));
    }
    rows
}

fn view(anchor: &[u32], turn: impl FnOnce(&mut [u32])) -> Vec<u32> {
    let mut row = anchor.to_vec();
    if row.len() > 2 {
        let last = row.len() - 1;
        turn(&mut row[1..last]);
    }
    row
}

fn pad(parts: &CollateParts, data: &Data, padding: &Padding, rows: &[Vec<u32>]) -> Rows {
    let longest = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = (parts.width)(longest, padding, data.max_length as usize);
    let mut padded =
        Rows { ids: Vec::new(), real: Vec::new(), positions: Vec::new(), count: rows.len(), width };
    for row in rows {
        let pads = width - row.len();
        let before = if (parts.side)(padding) == Side::Left { pads } else { 0 };
        let start = padded.real.len();
        padded.ids.resize(start + before, data.tokens.pad);
        padded.real.resize(start + before, false);
        padded.ids.extend_from_slice(row);
        padded.real.resize(start + before + row.len(), true);
        padded.ids.resize(start + width, data.tokens.pad);
        padded.real.resize(start + width, false);
        padded.positions.extend((parts.positions)(&padded.real[start..]));
    }
    padded
}
