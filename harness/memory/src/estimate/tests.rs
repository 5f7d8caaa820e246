//! The arithmetic against published figures, and against the two budgets that the reports give.

use rstest::rstest;
use traintrue_protocol::plan::Dtype;

use super::*;

/// A run in bfloat16 with AdamW over everything, in windows of two micro-batches.
fn request(batch: u64, length: u64) -> Request {
    Request {
        batch,
        rows_per_sample: 1,
        labelled_rows: None,
        length,
        target_length: None,
        dtype: Dtype::Bf16,
        moments: Moments::In(Dtype::Bf16),
        optimizer: Optimizer::Adamw,
        adapters: None,
        engine: Engine::TorchEager,
        accumulation: 2,
        clips: false,
        checkpointing: false,
        cache: false,
    }
}

/// Report 3's run: FLAN-T5 XL, batch 8, everything in bfloat16.
fn report_3(source: u64, target: u64) -> Request {
    Request { checkpointing: true, target_length: Some(target), ..request(8, source) }
}

fn of(model: &str, request: &Request) -> Estimate {
    let (name, architecture) = named(model).unwrap();
    estimate(name, &architecture, request, None).unwrap()
}

fn bytes(estimate: &Estimate, part: &str) -> u64 {
    estimate.parts.iter().find(|it| it.name == part).unwrap().bytes
}

/// What the two passes hold beside weights.
fn passes(estimate: &Estimate) -> u64 {
    bytes(estimate, "activations") + bytes(estimate, "working")
}

/// A block of a GPT with dropout in 16 bits keeps `s b h (34 + 5 a s / h)` bytes by equation 2 of arXiv 2205.05198.
/// transformers keeps more: four more tensors of `4 h` for `gelu_new`, which is not one operation; the softmax
/// in
/// f32, and in 16 bits where it was dropped from; no fewer.
#[rstest]
#[case("gpt2", 12, 768, 12)]
#[case("gpt2-xl", 48, 1600, 25)]
fn a_block_of_a_gpt_keeps_the_published_formula_and_what_transformers_adds(
    #[case] model: &str,
    #[case] layers: u64,
    #[case] h: u64,
    #[case] a: u64,
) {
    for (b, s) in [(1, 1024), (8, 256), (3, 77)] {
        let published = s * b * h * 34 + 5 * a * s * s * b;
        // Of `gelu_new`: half of the input, tanh, 1 + tanh. Of the two norms: mean and deviation in f32.
        let added = 3 * 2 * 4 * s * b * h + 2 * 2 * 4 * s * b;
        let softmax_in_f32 = 4 * a * s * s * b;
        // Beside the blocks: the last norm and the input of the logits' matrix, and the mask of the embedding.
        let outside = (2 + 2 + 1) * s * b * h + 2 * 4 * s * b;
        let found = bytes(&of(model, &request(b, s)), "activations");
        assert_eq!(found, layers * (published + added + softmax_in_f32) + outside);
    }
}

#[test]
fn eager_attention_grows_with_the_square_of_the_length_and_sdpa_does_not() {
    let activations =
        |length, engine| bytes(&of("llama-3.2-1b", &Request { engine, ..request(1, length) }), "activations");
    let twice = |engine| activations(4096, engine) - 2 * activations(2048, engine);
    // 16 layers of 32 heads: (4096² - 2 x 2048²) weights, in f32 and in 2 bytes.
    assert_eq!(twice(Engine::TorchEager), 16 * 32 * (4 + 2) * 2048 * 4096);
    assert_eq!(twice(Engine::TorchSdpa), 0);
}

#[rstest]
#[case(Dtype::Bf16, Dtype::Bf16, Optimizer::Adamw, [2, 2, 4])]
#[case(Dtype::Bf16, Dtype::F32, Optimizer::Adamw, [2, 2, 8])]
#[case(Dtype::F32, Dtype::F32, Optimizer::Adamw, [4, 4, 8])]
#[case(Dtype::F16, Dtype::F32, Optimizer::Momentum, [2, 2, 4])]
#[case(Dtype::F32, Dtype::F32, Optimizer::Sgd, [4, 4, 0])]
fn weights_gradients_and_moments_are_bytes_a_parameter(
    #[case] dtype: Dtype,
    #[case] moments: Dtype,
    #[case] optimizer: Optimizer,
    #[case] bytes_a_parameter: [u64; 3],
) {
    let moments = Moments::In(moments);
    let found = of("llama-3.2-3b", &Request { dtype, moments, optimizer, accumulation: 1, ..request(1, 8) });
    assert_eq!(found.peak, "the optimizer's update");
    let parts = ["parameters", "gradients", "moments"].map(|part| bytes(&found, part));
    assert_eq!(parts, bytes_a_parameter.map(|bytes| bytes * 3_212_749_824));
    assert_eq!((found.parameters, found.trained), (3_212_749_824, 3_212_749_824));
}

/// A moment in one byte: 256 values share an f32. The norms' 2,048 values are fewer than 4,096, and stay in f32.
#[test]
fn moments_in_8_bits_are_a_byte_a_value_and_small_tensors_stay_in_f32() {
    let eight = Request { moments: Moments::EightBit, ..request(1, 8) };
    let norms = 33 * 2048;
    let matrices = 1_235_814_400 - norms;
    assert_eq!(bytes(&of("llama-3.2-1b", &eight), "moments"), 2 * (matrices + matrices / 64 + 4 * norms));
}

#[test]
fn under_adapters_the_base_is_there_and_only_they_have_gradients_and_moments() {
    let adapters = Adapters { r: 8, targets: vec![Target::Q, Target::V] };
    let found = of("llama-2-7b", &Request { adapters: Some(adapters), ..request(1, 512) });
    assert_eq!((found.parameters, found.trained), (6_738_415_616 + 4_194_304, 4_194_304));
    let parts = ["parameters", "adapters", "moments"].map(|part| bytes(&found, part));
    assert_eq!(parts, [2 * 6_738_415_616, 2 * 4_194_304, 4 * 4_194_304]);
}

#[test]
fn a_window_of_several_micro_batches_holds_all_gradients_during_the_loss() {
    let first = of("gpt2", &Request { accumulation: 1, ..request(8, 512) });
    let later = of("gpt2", &request(8, 512));
    assert_eq!(first.peak, "the backward pass, in the loss");
    assert_eq!((bytes(&first, "gradients"), bytes(&later, "gradients")), (0, 2 * 124_439_808));
}

#[test]
fn rows_a_sample_multiply_all_that_grows_with_the_batch_and_nothing_else() {
    let three = Request { rows_per_sample: 3, cache: true, ..request(4, 768) };
    let twelve = Request { cache: true, ..request(12, 768) };
    assert_eq!(of("llama-3.2-3b", &three), of("llama-3.2-3b", &twelve));
    let one = Request { cache: true, ..request(4, 768) };
    for part in ["activations", "working", "cache"] {
        let (many, few) = (of("llama-3.2-3b", &three), of("llama-3.2-3b", &one));
        assert_eq!(bytes(&many, part), 3 * bytes(&few, part), "{part}");
    }
}

/// Keys and values, 28 layers of 8 heads of 128, 2 bytes: 114,688 bytes a position.
#[test]
fn a_cache_is_keys_and_values_of_every_layer() {
    let found = of("llama-3.2-3b", &Request { cache: true, ..request(4, 768) });
    assert_eq!(bytes(&found, "cache"), 4 * 768 * 114_688);
    assert_eq!(bytes(&of("llama-3.2-3b", &request(4, 768)), "cache"), 0);
}

#[test]
fn what_is_needed_is_held_against_the_capacity() {
    let (name, architecture) = named("gpt2").unwrap();
    let need =
        |capacity: Option<u64>| estimate(name, &architecture, &request(1, 128), capacity.map(Bytes)).unwrap();
    let total = need(None).total_bytes;
    assert_eq!(need(None).parts.iter().map(|part| part.bytes).sum::<u64>(), total);
    assert!(need(None).fits && need(Some(total)).fits);
    assert!(!need(Some(total - 1)).fits);
}

#[rstest]
#[case("gpt2", Request { batch: 0, ..request(1, 8) }, "batch: 0, expected 1 to")]
#[case("gpt2", Request { batch: u64::MAX, ..request(1, 8) }, "batch: 18446744073709551615")]
#[case("gpt2", Request { batch: 1 << 20, rows_per_sample: 1 << 20, ..request(1, 8) }, "rows: 1099511627776")]
#[case("gpt2", request(1, 0), "length: 0")]
#[case("gpt2", request(1, 1025), "length: 1025, but the model has a table of 1024 positions")]
#[case("gpt2", Request { target_length: Some(8), ..request(1, 8) }, "the model has no encoder")]
#[case("flan-t5-xl", request(1, 8), "say how long the decoder's rows are")]
#[case("gpt2", Request { adapters: Some(Adapters { r: 0, targets: Target::ALL.into() }), ..request(1, 8) }, "adapters: 0")]
#[case("gpt2", Request { adapters: Some(Adapters { r: 4, targets: vec![Target::Gate] }), ..request(1, 8) }, "no linear called \"gate\"")]
#[case("gpt2", Request { adapters: Some(Adapters { r: 4, targets: vec![Target::Q] }), ..request(1, 8) }, "q is part of one linear in this model, name all of q, k, v")]
#[case("gpt2", Request { adapters: Some(Adapters { r: 4, targets: vec![] }), ..request(1, 8) }, "no linear is named")]
fn what_does_not_suit_the_model_is_refused(
    #[case] model: &str,
    #[case] request: Request,
    #[case] message: &str,
) {
    let (name, architecture) = named(model).unwrap();
    let error = estimate(name, &architecture, &request, None).unwrap_err().to_string();
    assert!(error.contains(message), "{error}");
}

#[test]
fn the_largest_request_that_is_followed_does_not_overflow() {
    let text = r#"{"model_type":"t5","vocab_size":M,"d_model":M,"d_kv":M,"d_ff":M,"num_layers":M,"num_heads":M,
        "feed_forward_proj":"gated-gelu"}"#;
    let architecture = read_config(&text.replace('M', "16777216")).unwrap();
    let most = Request { target_length: Some(1 << 24), cache: true, ..request(1 << 24, 1 << 24) };
    let found = estimate("huge", &architecture, &most, Some(Bytes(u64::MAX - 1))).unwrap();
    assert_eq!((found.total_bytes, found.fits), (u64::MAX, false));
}

/// Report 3's budget, in units of 1e8 bytes: what each of its terms is for FLAN-T5 XL at batch 8 in bfloat16, the blocks
/// checkpointed. Its 6 GB of weights and of gradients hold; its 6 GB of moments, 10 and 8 of activations and 6 of cache
/// cannot: it adds up to 26 and 24 GB where the report has 34 and 26.
#[rstest]
#[case::before(256, 512, true, [57, 57, 114, 12], 23)]
#[case::after(196, 384, false, [57, 57, 114, 0], 17)]
fn the_budget_of_report_3(
    #[case] source: u64,
    #[case] target: u64,
    #[case] cache: bool,
    #[case] parts: [u64; 4],
    #[case] held: u64,
) {
    let found = of("flan-t5-xl", &Request { cache, ..report_3(source, target) });
    let names = ["parameters", "gradients", "moments", "cache"];
    let hundreds_of_mb = |bytes: u64| (bytes + 50_000_000) / 100_000_000;
    assert_eq!(names.map(|part| hundreds_of_mb(bytes(&found, part))), parts);
    assert_eq!(hundreds_of_mb(passes(&found)), held);
}

/// 24 layers of keys and values for 512 positions and for the encoder's 256, 2048 wide, of 8 rows in 2 bytes.
#[test]
fn the_cache_of_report_3_is_a_fifth_of_what_it_says() {
    let found = of("flan-t5-xl", &Request { cache: true, ..report_3(256, 512) });
    assert_eq!(bytes(&found, "cache"), 2 * 24 * (512 + 256) * 2048 * 8 * 2);
    assert!(bytes(&found, "cache") < 6_000_000_000 / 4);
}

/// With moments in f32, which mixed precision has, the same run is over the report's 32 GB; its cache does not decide it.
#[test]
fn what_can_put_report_3_over_its_card_is_the_moments_and_not_the_cache() {
    let of = |moments, cache| {
        let moments = Moments::In(moments);
        of("flan-t5-xl", &Request { moments, cache, ..report_3(256, 512) }).total_bytes
    };
    let card = 32 << 30;
    assert!(of(Dtype::Bf16, true) < card);
    assert!(of(Dtype::F32, false) > card);
}

/// The report's 40 to 50 % are those of the attention's weights. All activations shrink by a quarter to a third.
#[rstest]
#[case(Engine::TorchEager, false, 342)]
#[case(Engine::TorchSdpa, false, 327)]
#[case(Engine::TorchEager, true, 260)]
fn the_shorter_lengths_of_report_3_save(
    #[case] engine: Engine,
    #[case] checkpointing: bool,
    #[case] thousandths: u64,
) {
    let activations = |source, target| {
        let request = Request { engine, checkpointing, ..report_3(source, target) };
        passes(&of("flan-t5-xl", &request))
    };
    let (before, after) = (activations(256, 512), activations(196, 384));
    assert_eq!((before - after) * 1000 / before, thousandths);
    // Weights of 24 encoder blocks, of 24 decoder blocks, and of these on the encoder.
    let weights = |source: u64, target: u64| source * source + target * target + source * target;
    assert_eq!((weights(256, 512) - weights(196, 384)) * 1000 / weights(256, 512), 430);
}

/// Report 5: 22 to 24 GB for 12 rows, 12 to 14 GB for 6. What does not depend on the rows is twice the second less the
/// first: 0 to 6 GB. The weights of its model alone are more, whatever else is assumed.
#[rstest]
#[case("llama-3.2-3b", false)]
#[case("llama-2-7b", false)]
#[case("llama-3.2-1b", true)]
fn the_two_figures_of_report_5_leave_room_for_the_weights_of(#[case] model: &str, #[case] fits: bool) {
    let most_fixed = 2 * 14_000_000_000_u64 - 22_000_000_000;
    let adapters = Some(Adapters { r: 16, targets: vec![Target::Q, Target::V] });
    let rows = |batch| Request { rows_per_sample: 3, adapters: adapters.clone(), ..request(batch, 768) };
    let (twelve, six) = (of(model, &rows(4)), of(model, &rows(2)));
    assert_eq!(bytes(&twelve, "parameters") <= most_fixed, fits);
    for part in ["parameters", "adapters", "gradients", "moments", "cache"] {
        assert_eq!(bytes(&twelve, part), bytes(&six, part), "{part}");
    }
    for part in ["activations", "working"] {
        assert_eq!(bytes(&twelve, part), 2 * bytes(&six, part), "{part}");
    }
}

/// Each change has its figure, the whole of them too; the estimate says so only where the run does not fit.
#[test]
fn what_does_not_fit_says_what_would_need_less_and_how_much() {
    let (name, architecture) = named("llama-3.2-3b").unwrap();
    let with =
        |request: &Request, gib: u64| estimate(name, &architecture, request, Some(Bytes(gib << 30))).unwrap();
    let request = request(8, 2048);
    let over = with(&request, 40);
    let changes: Vec<&str> = over.savings.iter().map(|it| it.change.as_str()).collect();
    assert_eq!(
        changes,
        [
            "--checkpointing",
            "--attention sdpa",
            "--moments 8bit",
            "all of these",
            "--batch 1 --accumulation 16",
            "all of these, --batch 4 --accumulation 4",
            "--adapters 16 --targets q,v",
        ]
    );
    let checkpointed = with(&Request { checkpointing: true, ..request.clone() }, 40);
    assert_eq!(
        (over.savings[0].total_bytes, over.savings[0].fits),
        (checkpointed.total_bytes, checkpointed.fits)
    );
    assert!(over.savings.iter().all(|it| it.total_bytes < over.total_bytes));
    assert_eq!(with(&request, 4096).savings, []);
}

const LLAMA: &str = r#"{"model_type":"llama","vocab_size":128256,"hidden_size":3072,"intermediate_size":8192,
    "num_hidden_layers":28,"num_attention_heads":24,"num_key_value_heads":8,"head_dim":128,"hidden_act":"silu",
    "tie_word_embeddings":true,"attention_bias":false,"mlp_bias":false,"rope_scaling":{"factor":32.0}}"#;
const QWEN: &str = r#"{"model_type":"qwen2","vocab_size":151936,"hidden_size":1536,"intermediate_size":8960,
    "num_hidden_layers":28,"num_attention_heads":12,"num_key_value_heads":2,"tie_word_embeddings":true}"#;
const T5: &str = r#"{"model_type":"t5","vocab_size":32128,"d_model":2048,"d_kv":64,"d_ff":5120,"num_layers":24,
    "num_decoder_layers":24,"num_heads":32,"feed_forward_proj":"gated-gelu","relative_attention_num_buckets":32,
    "tie_word_embeddings":false,"dropout_rate":0.1}"#;
const GPT2: &str = r#"{"model_type":"gpt2","vocab_size":50257,"n_embd":768,"n_layer":12,"n_head":12,"n_positions":1024,
    "n_inner":null,"attn_pdrop":0.1,"resid_pdrop":0.1}"#;
const PHI: &str = r#"{"model_type":"phi","vocab_size":51200,"hidden_size":2560,"intermediate_size":10240,
    "num_hidden_layers":32,"num_attention_heads":32,"num_key_value_heads":null,"tie_word_embeddings":false}"#;

#[rstest]
#[case("llama-3.2-3b", LLAMA)]
#[case("qwen2.5-1.5b", QWEN)]
#[case("flan-t5-xl", T5)]
#[case("gpt2", GPT2)]
#[case("phi-2", PHI)]
fn a_config_json_is_the_model_of_the_table(#[case] model: &str, #[case] config: &str) {
    assert_eq!(read_config(config).unwrap(), named(model).unwrap().1);
}

#[rstest]
#[case("", "line 1, column 0")]
#[case("{\"model_type\": \"llama\",", "line 1, column")]
#[case("[1, 2]", "found an array, expected an object")]
#[case("null", "found null, expected an object")]
#[case("{}", "model_type: null, expected one of bert, gemma, gpt2, gpt_neox, llama")]
#[case("{\"model_type\": \"mamba\"}", "model_type: \"mamba\", expected one of")]
#[case("{\"model_type\": 7}", "model_type: 7, expected one of")]
#[case("{\"model_type\": \"llama\"}", "hidden_size: missing")]
#[case(&LLAMA.replace("3072", "-3072"), "hidden_size: -3072, expected a whole number from 1 to")]
#[case(&LLAMA.replace("3072", "0"), "hidden_size: 0, expected a whole number from 1 to")]
#[case(&LLAMA.replace("3072", "1e300"), "hidden_size: 1e+300, expected a whole number")]
#[case(&LLAMA.replace("3072", "99999999999999999999999"), "hidden_size: ")]
#[case(&LLAMA.replace("3072", "\"3072\""), "hidden_size: \"3072\", expected a whole number")]
#[case(&LLAMA.replace(":28,", ":null,"), "num_hidden_layers: missing")]
#[case(&LLAMA.replace("true", "\"yes\""), "tie_word_embeddings: \"yes\", expected true or false")]
#[case(&LLAMA.replace("\"head_dim\":128,", "").replace("24", "7"), "expected a divisor of hidden_size, 3072")]
#[case(&T5.replace("0.1", "1.5"), "dropout_rate: 1.5, expected a rate")]
#[case(&T5.replace("\"d_kv\":64,", ""), "d_kv: missing")]
#[case(&T5.replace("gated-gelu", "gated-swish"), "feed_forward_proj: \"gated-swish\", expected relu, gated-gelu or gated-silu")]
#[case(&LLAMA.replace("\"num_key_value_heads\":8", "\"num_key_value_heads\":7"), "num_key_value_heads: 7, expected a divisor of num_attention_heads, 24")]
#[case(&LLAMA.replace("silu", "mish"), "hidden_act: \"mish\", expected silu, gelu")]
#[case(&LLAMA.replace("{\"model", "{\"quantization_config\":{\"load_in_4bit\":true},\"model"), "quantization_config: {\"load_in_4bit\":true}, expected no quantised weights")]
#[case(&PHI.replace("{\"model", "{\"qk_layernorm\":true,\"model"), "qk_layernorm: true, expected false")]
fn a_config_json_that_is_none_says_what_is_wrong(#[case] config: &str, #[case] message: &str) {
    let error = read_config(config).unwrap_err().to_string();
    assert!(error.contains(message), "{error}");
}
