//! Published models by name, with the figures of their `config.json`.

use traintrue_protocol::nearest;

use super::architecture::{Activation, Architecture, Biases, Norm, Order};

/// Words that may be in a model's name without changing its architecture. Any other word may name another model, or a
/// quantised one, which needs another amount of memory.
const BESIDE: [&str; 13] =
    ["meta", "instruct", "chat", "it", "hf", "v0.1", "v0.2", "v0.3", "v1.0", "4k", "128k", "fp16", "bf16"];

/// A name that is not in the table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no model called {name:?} in the table{hint}; give its config.json")]
pub struct UnknownModel {
    /// The name that was given.
    pub name: String,
    /// The nearest names in the table.
    pub hint: String,
}

/// The model of the longest name that `wanted` holds, with that name: `meta-llama/Llama-3.2-1B-Instruct` is
/// `llama-3.2-1b`. Fails where none is in it, or where what is left over may name another model: nothing is guessed.
pub fn named(wanted: &str) -> Result<(&'static str, Architecture), UnknownModel> {
    let words = words(of_its_owner(wanted));
    let (name, extents) = TABLE
        .iter()
        .filter(|(name, _)| is_in(name, &words))
        .max_by_key(|(name, _)| name.len())
        .ok_or_else(|| UnknownModel { name: wanted.to_owned(), hint: hint(wanted) })?;
    Ok((name, extents()))
}

/// The names of the table.
pub fn names() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|(name, _)| *name)
}

fn hint(wanted: &str) -> String {
    let plain = words(of_its_owner(wanted)).join("-");
    nearest::hint(&plain, names())
}

/// The name without its owner: `meta-llama/`.
fn of_its_owner(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

fn words(name: &str) -> Vec<String> {
    let lower = name.to_lowercase();
    lower.split(['-', '_', '/', ' ', ':']).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// Whether the words of `name` stand in `words`, in order, and none beside them may name another model.
fn is_in(name: &str, words: &[String]) -> bool {
    let mut wanted = name.split('-').peekable();
    let mut beside = words.iter().filter(|word| wanted.next_if(|next| next == word).is_none());
    let known = beside.all(|word| BESIDE.contains(&word.as_str()));
    known && wanted.peek().is_none()
}

type Extents = fn() -> Architecture;

#[rustfmt::skip]
static TABLE: &[(&str, Extents)] = &[
    ("gpt2",            || gpt2(768, 12, 12)),
    ("gpt2-medium",     || gpt2(1024, 24, 16)),
    ("gpt2-large",      || gpt2(1280, 36, 20)),
    ("gpt2-xl",         || gpt2(1600, 48, 25)),
    ("t5-small",        || t5(512, 6, 8, 2048)),
    ("t5-base",         || t5(768, 12, 12, 3072)),
    ("flan-t5-small",   || flan_t5(512, 8, 6, 1024)),
    ("flan-t5-base",    || flan_t5(768, 12, 12, 2048)),
    ("flan-t5-large",   || flan_t5(1024, 24, 16, 2816)),
    ("flan-t5-xl",      || flan_t5(2048, 24, 32, 5120)),
    ("flan-t5-xxl",     || flan_t5(4096, 24, 64, 10_240)),
    ("llama-2-7b",      || llama(32_000, 4096, 32, 32, 32, 11_008)),
    ("llama-2-13b",     || llama(32_000, 5120, 40, 40, 40, 13_824)),
    ("llama-2-70b",     || llama(32_000, 8192, 80, 64, 8, 28_672)),
    ("llama-3-8b",      || llama(128_256, 4096, 32, 32, 8, 14_336)),
    ("llama-3-70b",     || llama(128_256, 8192, 80, 64, 8, 28_672)),
    ("llama-3.1-8b",    || llama(128_256, 4096, 32, 32, 8, 14_336)),
    ("llama-3.1-70b",   || llama(128_256, 8192, 80, 64, 8, 28_672)),
    ("llama-3.2-1b",    || tied(llama(128_256, 2048, 16, 32, 8, 8192))),
    ("llama-3.2-3b",    || tied(llama(128_256, 3072, 28, 24, 8, 8192))),
    ("llama-3.3-70b",   || llama(128_256, 8192, 80, 64, 8, 28_672)),
    ("tinyllama-1.1b",  || llama(32_000, 2048, 22, 32, 4, 5632)),
    ("mistral-7b",      || llama(32_000, 4096, 32, 32, 8, 14_336)),
    ("mistral-7b-v0.3", || llama(32_768, 4096, 32, 32, 8, 14_336)),
    ("qwen2.5-0.5b",    || tied(qwen2(151_936, 896, 24, 14, 2, 4864))),
    ("qwen2.5-1.5b",    || tied(qwen2(151_936, 1536, 28, 12, 2, 8960))),
    ("qwen2.5-3b",      || tied(qwen2(151_936, 2048, 36, 16, 2, 11_008))),
    ("qwen2.5-7b",      || qwen2(152_064, 3584, 28, 28, 4, 18_944)),
    ("qwen2.5-14b",     || qwen2(152_064, 5120, 48, 40, 8, 13_824)),
    ("qwen2.5-32b",     || qwen2(152_064, 5120, 64, 40, 8, 27_648)),
    ("phi-1.5",         || phi(2048, 24)),
    ("phi-2",           || phi(2560, 32)),
    ("phi-3-mini",      || phi3(32_064, 3072, 32, 32, 32, 8192)),
    ("phi-3.5-mini",    || phi3(32_064, 3072, 32, 32, 32, 8192)),
    ("phi-4",           || phi3(100_352, 5120, 40, 40, 10, 17_920)),
];

fn llama(
    vocabulary: u64,
    hidden: u64,
    layers: u64,
    heads: u64,
    key_value_heads: u64,
    inner: u64,
) -> Architecture {
    Architecture { key_value_heads, ..Architecture::decoder(vocabulary, hidden, layers, heads, inner) }
}

fn tied(untied: Architecture) -> Architecture {
    Architecture { tied: true, ..untied }
}

fn qwen2(
    vocabulary: u64,
    hidden: u64,
    layers: u64,
    heads: u64,
    key_value_heads: u64,
    inner: u64,
) -> Architecture {
    let biases = Biases { qv: true, k: true, ..Biases::default() };
    Architecture { biases, ..llama(vocabulary, hidden, layers, heads, key_value_heads, inner) }
}

fn gpt2(hidden: u64, layers: u64, heads: u64) -> Architecture {
    Architecture {
        gated: false,
        activation: Activation::NewGelu,
        norm: Norm::ScaleAndShift,
        rotary: false,
        fused_qkv: true,
        biases: Biases { qv: true, k: true, output: true, inner: true, head: false },
        positions: 1024,
        tied: true,
        dropout: true,
        ..Architecture::decoder(50_257, hidden, layers, heads, 4 * hidden)
    }
}

fn phi(hidden: u64, layers: u64) -> Architecture {
    Architecture {
        gated: false,
        activation: Activation::NewGelu,
        norm: Norm::ScaleAndShift,
        order: Order::SharedNorm,
        queries_by_heads: true,
        biases: Biases { qv: true, k: true, output: true, inner: true, head: true },
        ..Architecture::decoder(51_200, hidden, layers, 32, 4 * hidden)
    }
}

fn phi3(
    vocabulary: u64,
    hidden: u64,
    layers: u64,
    heads: u64,
    key_value_heads: u64,
    inner: u64,
) -> Architecture {
    let llama = llama(vocabulary, hidden, layers, heads, key_value_heads, inner);
    Architecture { fused_qkv: true, queries_by_heads: true, fused_gate: true, ..llama }
}

fn t5(hidden: u64, layers: u64, heads: u64, inner: u64) -> Architecture {
    Architecture {
        encoder_layers: layers,
        head_width: 64,
        gated: false,
        activation: Activation::Relu,
        rotary: false,
        distance_buckets: 32,
        tied: true,
        dropout: true,
        ..Architecture::decoder(32_128, hidden, layers, heads, inner)
    }
}

fn flan_t5(hidden: u64, layers: u64, heads: u64, inner: u64) -> Architecture {
    Architecture {
        gated: true,
        activation: Activation::NewGelu,
        tied: false,
        ..t5(hidden, layers, heads, inner)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rstest::rstest;

    use super::*;
    use crate::estimate::Target;

    /// Parameters as published: the counts of each model's safetensors files, tied tensors once.
    #[rstest]
    #[case("gpt2", 124_439_808)]
    #[case("gpt2-medium", 354_823_168)]
    #[case("gpt2-large", 774_030_080)]
    #[case("gpt2-xl", 1_557_611_200)]
    #[case("t5-small", 60_506_624)]
    #[case("t5-base", 222_903_552)]
    #[case("flan-t5-small", 76_961_152)]
    #[case("flan-t5-base", 247_577_856)]
    #[case("flan-t5-large", 783_150_080)]
    #[case("flan-t5-xl", 2_849_757_184)]
    #[case("flan-t5-xxl", 11_135_332_352)]
    #[case("llama-2-7b", 6_738_415_616)]
    #[case("llama-2-13b", 13_015_864_320)]
    #[case("llama-2-70b", 68_976_648_192)]
    #[case("llama-3-8b", 8_030_261_248)]
    #[case("llama-3-70b", 70_553_706_496)]
    #[case("llama-3.1-8b", 8_030_261_248)]
    #[case("llama-3.1-70b", 70_553_706_496)]
    #[case("llama-3.2-1b", 1_235_814_400)]
    #[case("llama-3.2-3b", 3_212_749_824)]
    #[case("llama-3.3-70b", 70_553_706_496)]
    #[case("tinyllama-1.1b", 1_100_048_384)]
    #[case("mistral-7b", 7_241_732_096)]
    #[case("mistral-7b-v0.3", 7_248_023_552)]
    #[case("qwen2.5-0.5b", 494_032_768)]
    #[case("qwen2.5-1.5b", 1_543_714_304)]
    #[case("qwen2.5-3b", 3_085_938_688)]
    #[case("qwen2.5-7b", 7_615_616_512)]
    #[case("qwen2.5-14b", 14_770_033_664)]
    #[case("qwen2.5-32b", 32_763_876_352)]
    #[case("phi-1.5", 1_418_270_720)]
    #[case("phi-2", 2_779_683_840)]
    #[case("phi-3-mini", 3_821_079_552)]
    #[case("phi-3.5-mini", 3_821_079_552)]
    #[case("phi-4", 14_659_507_200)]
    fn the_figures_give_the_published_number_of_parameters(#[case] name: &str, #[case] published: u128) {
        let (found, architecture) = named(name).unwrap();
        assert_eq!((found, architecture.parameters(1).bytes()), (name, published));
    }

    #[test]
    fn no_model_is_without_its_published_number() {
        let table = include_str!("models.rs");
        for name in names() {
            assert!(table.contains(&format!("#[case({name:?}, ")), "{name}");
        }
        assert_eq!(names().collect::<BTreeSet<_>>().len(), TABLE.len());
    }

    /// Adapter parameters as PEFT prints them.
    #[rstest]
    #[case("llama-2-7b", 8, 4_194_304)]
    #[case("llama-3.1-8b", 8, 3_407_872)]
    #[case("llama-3.1-8b", 16, 6_815_744)]
    #[case("flan-t5-xl", 16, 9_437_184)]
    fn adapters_on_q_and_v_are_as_many_as_published(
        #[case] name: &str,
        #[case] r: u64,
        #[case] published: u128,
    ) {
        let (_, architecture) = named(name).unwrap();
        assert_eq!(architecture.adapters(r, &[Target::Q, Target::V], 1).bytes(), published);
    }

    #[rstest]
    #[case("meta-llama/Llama-3.2-1B-Instruct", "llama-3.2-1b")]
    #[case("unsloth/Llama-3.2-3B-Instruct", "llama-3.2-3b")]
    #[case("meta-llama/Llama-2-7b-chat-hf", "llama-2-7b")]
    #[case("google/flan-t5-xl", "flan-t5-xl")]
    #[case("google/flan-t5-small", "flan-t5-small")]
    #[case("google-t5/t5-small", "t5-small")]
    #[case("mistralai/Mistral-7B-Instruct-v0.2", "mistral-7b")]
    #[case("mistralai/Mistral-7B-Instruct-v0.3", "mistral-7b-v0.3")]
    #[case("microsoft/Phi-3-mini-4k-instruct", "phi-3-mini")]
    #[case("Qwen/Qwen2.5-7B", "qwen2.5-7b")]
    fn the_longest_name_wins(#[case] wanted: &str, #[case] name: &str) {
        assert_eq!(named(wanted).unwrap().0, name);
    }

    #[rstest]
    #[case("llama-3.2-2b", "llama-3.2-")]
    #[case("meta-llama/Llama-3.2-11B-Vision", "llama-3.2-1b")]
    #[case("llama-3-2-3b", "llama-3.2-3b")]
    #[case("google/t5-v1_1-base", "t5-base")]
    #[case("google/long-t5-tglobal-base", "t5-base")]
    #[case("Qwen/Qwen2.5-VL-7B-Instruct", "qwen2.5-7b")]
    #[case("microsoft/Phi-4-multimodal-instruct", "")]
    #[case("gpt-2", "gpt2")]
    #[case("gpt2-tiny", "gpt2")]
    #[case("llama-2-7b-draft-300m", "llama-2-7b")]
    #[case("unsloth/Llama-3.2-3B-Instruct-bnb-4bit", "llama-3.2-3b")]
    #[case("flan-t5", "flan-t5-")]
    #[case("my-own-7b", "")]
    #[case("", "")]
    fn an_unknown_name_is_an_error_with_the_nearest_and_no_default(#[case] wanted: &str, #[case] near: &str) {
        let error = named(wanted).unwrap_err();
        assert!(error.hint.contains(near), "{error}");
        assert_eq!(error.name, wanted);
    }
}
