//! A safetensors file: its header, and one pass over its values in memory that does not grow with the file.

use std::cmp::Ordering;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use safetensors::Dtype;
use safetensors::tensor::Metadata;

use super::error::ArtefactError;

/// The format's own limit on a header.
const HEADER_LIMIT_BYTES: u64 = 100_000_000;

/// Bytes per read. A multiple of every element size, so that no element is split.
const CHUNK_BYTES: usize = 1 << 20;

/// A file and its tensors.
#[derive(Clone, Debug)]
pub struct TensorFile {
    /// The file.
    pub path: PathBuf,
    /// By name.
    pub tensors: Vec<Tensor>,
}

/// One tensor, and a summary of its values.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Its name.
    pub name: String,
    /// Its number format.
    pub dtype: Dtype,
    /// Its extents.
    pub shape: Vec<usize>,
    /// Values that are NaN or infinite.
    pub nonfinite: u64,
    /// Whether every value is 0.
    pub zero: bool,
    /// Digest of its values, if requested.
    pub digest: Option<blake3::Hash>,
}

impl Tensor {
    /// The number of values.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether its format is a floating-point format, which training changes.
    pub fn is_float(&self) -> bool {
        matches!(self.dtype, Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16)
            || matches!(self.dtype, Dtype::F8_E4M3 | Dtype::F8_E5M2)
    }
}

impl TensorFile {
    /// Reads a file; with `digests`, also hashes the values of each tensor. Fails if the header is invalid, if its
    /// tensors overlap or leave gaps, or if the file's length differs from the header's.
    pub fn read(path: &Path, digests: bool) -> Result<Self, ArtefactError> {
        let io = |source| ArtefactError::Io { path: path.to_owned(), source };
        let file = File::open(path).map_err(io)?;
        let length = file.metadata().map_err(io)?.len();
        let mut from = BufReader::new(file);
        let header = header(&mut from, length).map_err(|problem| problem.of(path))?;
        let mut names = header.offset_keys();
        // The reader goes through the file once, so tensors are read in the order of their offsets. Empty tensors share
        // one.
        names.sort_by_key(|name| header.info(name).map(|info| info.data_offsets));
        let mut tensors = Vec::with_capacity(names.len());
        for name in names {
            let Some(info) = header.info(&name) else { continue };
            let bytes = (info.data_offsets.1 - info.data_offsets.0) as u64;
            let look = look((&mut from).take(bytes), info.dtype, digests).map_err(io)?;
            let (dtype, shape) = (info.dtype, info.shape.clone());
            let Look { nonfinite, zero, digest } = look;
            tensors.push(Tensor {
                name,
                dtype,
                shape,
                nonfinite,
                zero,
                digest: digest.map(|it| it.finalize()),
            });
        }
        Ok(Self::of(path.to_owned(), tensors))
    }

    /// These tensors, in the order of their names.
    pub fn of(path: PathBuf, mut tensors: Vec<Tensor>) -> Self {
        tensors.sort_by(|one, other| one.name.cmp(&other.name));
        Self { path, tensors }
    }

    /// A tensor by its name.
    pub fn find(&self, name: &str) -> Option<&Tensor> {
        let at = self.tensors.binary_search_by(|tensor| tensor.name.as_str().cmp(name)).ok()?;
        self.tensors.get(at)
    }
}

enum Problem {
    Io(std::io::Error),
    Said(String),
}

impl Problem {
    fn of(self, path: &Path) -> ArtefactError {
        let path = path.to_owned();
        match self {
            Self::Io(source) => ArtefactError::Io { path, source },
            Self::Said(problem) => ArtefactError::Safetensors { path, problem },
        }
    }
}

/// The header of a file of `length` bytes. A damaged size field must not allocate more memory than the file has bytes.
fn header(from: &mut impl Read, length: u64) -> Result<Metadata, Problem> {
    if length < 8 {
        return Err(Problem::Said(format!("it has {length} bytes, and the header's length alone takes 8")));
    }
    let mut size = [0; 8];
    from.read_exact(&mut size).map_err(Problem::Io)?;
    let (size, rest) = (u64::from_le_bytes(size), length - 8);
    if size > HEADER_LIMIT_BYTES {
        let most = format!("its header would have {size} bytes, expected at most {HEADER_LIMIT_BYTES}");
        return Err(Problem::Said(most));
    }
    if size > rest {
        let short = format!("it is cut short: its header has {size} bytes, and {rest} are there");
        return Err(Problem::Said(short));
    }
    let mut header = vec![0; size as usize];
    from.read_exact(&mut header).map_err(Problem::Io)?;
    // The library checks that the tensors follow each other without a gap, each as long as its shape and format make
    // it.
    let metadata: Metadata =
        serde_json::from_slice(&header).map_err(|error| Problem::Said(format!("its header: {error}")))?;
    let (told, there) = (metadata.data_len() as u64, rest - size);
    match told.cmp(&there) {
        Ordering::Equal => Ok(metadata),
        Ordering::Greater => Err(Problem::Said(format!(
            "it is cut short: its tensors have {told} bytes, and {there} are there"
        ))),
        Ordering::Less => Err(Problem::Said(format!("its tensors have {told} bytes, and {there} are there"))),
    }
}

/// A summary of the values of one tensor.
struct Look {
    nonfinite: u64,
    zero: bool,
    digest: Option<blake3::Hasher>,
}

fn look(mut from: impl Read, dtype: Dtype, digest: bool) -> std::io::Result<Look> {
    let mut look = Look { nonfinite: 0, zero: true, digest: digest.then(blake3::Hasher::new) };
    let mut chunk = Vec::with_capacity(CHUNK_BYTES);
    loop {
        chunk.clear();
        // Every chunk but the last is full, so no element is split.
        if from.by_ref().take(CHUNK_BYTES as u64).read_to_end(&mut chunk)? == 0 {
            return Ok(look);
        }
        look.values(&chunk, dtype);
        look.digest.iter_mut().for_each(|digest| {
            digest.update(&chunk);
        });
    }
}

impl Look {
    fn values(&mut self, bytes: &[u8], dtype: Dtype) {
        match dtype {
            Dtype::F64 => self.each(bytes, f64::from_le_bytes, |it| it.is_finite(), |it| *it == 0.0),
            Dtype::F32 => self.each(bytes, f32::from_le_bytes, |it| it.is_finite(), |it| *it == 0.0),
            Dtype::F16 => {
                self.each(bytes, f16::from_le_bytes, |it| it.is_finite(), |it| it.to_f32() == 0.0);
            }
            Dtype::BF16 => {
                self.each(bytes, bf16::from_le_bytes, |it| it.is_finite(), |it| it.to_f32() == 0.0);
            }
            // Five bits of exponent: all set is infinite or NaN.
            Dtype::F8_E5M2 => {
                self.each(bytes, |it: [u8; 1]| it[0] & 0x7f, |it| it & 0x7c != 0x7c, |it| *it == 0)
            }
            // Four bits of exponent, no infinity: only all set is NaN.
            Dtype::F8_E4M3 => self.each(bytes, |it: [u8; 1]| it[0] & 0x7f, |it| *it != 0x7f, |it| *it == 0),
            _ => self.each(bytes, |it: [u8; 1]| it[0], |_| true, |it| *it == 0),
        }
    }

    fn each<const N: usize, T>(
        &mut self,
        bytes: &[u8],
        value: impl Fn([u8; N]) -> T,
        finite: impl Fn(&T) -> bool,
        zero: impl Fn(&T) -> bool,
    ) {
        let (elements, _) = bytes.as_chunks::<N>();
        for element in elements {
            let value = value(*element);
            self.nonfinite += u64::from(!finite(&value));
            self.zero &= zero(&value);
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::artefact::testing::{Written, safetensors};

    fn read(bytes: &[u8]) -> Result<TensorFile, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        let shown = format!("{}: ", file.path().display());
        TensorFile::read(file.path(), true).map_err(|error| error.to_string().replace(&shown, ""))
    }

    fn with_header(header: &str, data: &[u8]) -> Vec<u8> {
        [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
    }

    #[rstest]
    #[case::f64(Dtype::F64, f64::NAN.to_le_bytes().to_vec(), 1, false)]
    #[case::f32(Dtype::F32, f32::INFINITY.to_le_bytes().to_vec(), 1, false)]
    #[case::minus_zero(Dtype::F32, (-0.0_f32).to_le_bytes().to_vec(), 0, true)]
    #[case::smallest(Dtype::F32, vec![1, 0, 0, 0], 0, false)]
    #[case::f16(Dtype::F16, f16::NAN.to_le_bytes().to_vec(), 1, false)]
    #[case::bf16(Dtype::BF16, bf16::NEG_INFINITY.to_le_bytes().to_vec(), 1, false)]
    #[case::bf16_zero(Dtype::BF16, bf16::NEG_ZERO.to_le_bytes().to_vec(), 0, true)]
    #[case::f8_e5m2(Dtype::F8_E5M2, vec![0xfc], 1, false)]
    #[case::f8_e4m3(Dtype::F8_E4M3, vec![0xff], 1, false)]
    #[case::f8_e4m3_largest(Dtype::F8_E4M3, vec![0x7e], 0, false)]
    #[case::integer(Dtype::I32, vec![0, 0, 0, 0xff], 0, false)]
    #[case::boolean(Dtype::BOOL, vec![0], 0, true)]
    fn a_value_is_looked_at_in_its_format(
        #[case] dtype: Dtype,
        #[case] bytes: Vec<u8>,
        #[case] nonfinite: u64,
        #[case] zero: bool,
    ) {
        let file = read(&safetensors(&[Written::raw("w", dtype, &[1], &bytes)])).unwrap();
        assert_eq!((file.tensors[0].nonfinite, file.tensors[0].zero), (nonfinite, zero));
    }

    #[test]
    fn a_tensor_longer_than_a_chunk_is_seen_to_its_end() {
        let mut values = vec![0.0_f32; CHUNK_BYTES / 4 + 3];
        let zero = read(&safetensors(&[Written::f32("w", &[values.len()], &values)])).unwrap();
        *values.last_mut().unwrap() = f32::NAN;
        let nan = read(&safetensors(&[Written::f32("w", &[values.len()], &values)])).unwrap();
        assert_eq!((zero.tensors[0].zero, nan.tensors[0].zero, nan.tensors[0].nonfinite), (true, false, 1));
        assert_ne!(zero.tensors[0].digest, nan.tensors[0].digest);
    }

    #[test]
    fn tensors_are_read_from_their_own_bytes() {
        let file = read(&safetensors(&[
            Written::f32("b", &[2], &[0.0; 2]),
            Written::f32("none", &[0, 3], &[]),
            Written::f32("a", &[1, 2], &[1.0; 2]),
        ]));
        let file = file.unwrap();
        let zero: Vec<_> = file.tensors.iter().map(|it| (it.name.as_str(), it.zero, it.elements())).collect();
        assert_eq!(zero.len(), 3);
        assert_eq!((file.find("a").unwrap().zero, file.find("b").unwrap().zero), (false, true));
    }

    #[rstest]
    #[case::empty(Vec::new(), "not a safetensors file: it has 0 bytes")]
    #[case::huge(u64::MAX.to_le_bytes().to_vec(), "not a safetensors file: its header would have 18446744073709551615 \
                                                   bytes")]
    #[case::beyond(1000_u64.to_le_bytes().to_vec(), "not a safetensors file: it is cut short: its header has 1000 \
                                                     bytes, and 0 are")]
    #[case::not_utf8([&4_u64.to_le_bytes()[..], &[b'{', 0xff, 0xfe, b'}']].concat(), "not a safetensors file: its header: ")]
    #[case::no_json(with_header("weights!", &[]), "not a safetensors file: its header: expected value")]
    #[case::dtype(with_header(r#"{"w":{"dtype":"F31","shape":[1],"data_offsets":[0,4]}}"#, &[0; 4]), "not a safetensors file: its header: unknown variant `F31`")]
    #[case::no_offsets(with_header(r#"{"w":{"dtype":"F32","shape":[1]}}"#, &[0; 4]), "not a safetensors file: its \
        header: missing field `data_offsets`")]
    #[case::overlap(
        with_header(r#"{"v":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"w":{"dtype":"F32","shape":[1],"data_offsets":[2,6]}}"#, &[0; 6]),
        "not a safetensors file: its header: invalid offset for tensor `w`"
    )]
    #[case::gap(
        with_header(r#"{"w":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#, &[0; 8]),
        "not a safetensors file: its header: invalid offset for tensor `w`"
    )]
    #[case::shape(
        with_header(r#"{"w":{"dtype":"F32","shape":[3],"data_offsets":[0,4]}}"#, &[0; 4]),
        "not a safetensors file: its header: invalid shape"
    )]
    #[case::overflow(
        with_header(r#"{"w":{"dtype":"F32","shape":[9223372036854775807,9],"data_offsets":[0,4]}}"#, &[0; 4]),
        "not a safetensors file: its header: overflow"
    )]
    #[case::cut(
        with_header(r#"{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#, &[0; 5]),
        "not a safetensors file: it is cut short: its tensors have 8 bytes, and 5 are there"
    )]
    #[case::longer(
        with_header(r#"{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#, &[0; 5]),
        "not a safetensors file: its tensors have 4 bytes, and 5 are there"
    )]
    fn what_is_no_safetensors_file_is_one_clear_error(#[case] bytes: Vec<u8>, #[case] message: &str) {
        let error = read(&bytes).unwrap_err();
        assert!(error.starts_with(message), "{error}");
    }
}
