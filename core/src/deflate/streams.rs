//! The compressors and decompressors of a context.

use super::{
    Policy, Settings, WindowBits,
    compress::{Compressor, TAIL},
    inflate::Inflater,
    window::{Budget, SentWindow},
};

/// The sizes that windows may have.
const SIZES: usize = (WindowBits::MAX.get() - WindowBits::MIN.get()) as usize + 1;
/// The most compressors that are kept for connections that send often.
const BUSY_MAX: usize = 64;
/// What is inflated at once.
const SCRATCH_BYTES: usize = 32 << 10;
/// More are only needed while as many long messages come in pieces.
const INFLATERS_MAX: usize = 4;
/// What is kept of the memory that messages are compressed into.
const OUTPUT_BYTES_KEPT: usize = 64 << 10;

/// All that compresses or decompresses for the connections of a context, made on first use.
#[derive(Debug)]
pub(crate) struct Streams {
    pub(crate) settings: Settings,
    pub(crate) budget: Budget,
    /// By the size of their window, for messages by themselves.
    shared: [Option<Box<Compressor>>; SIZES],
    /// For windows, each at the place that follows from its number: what another connection
    /// compresses with it in between costs one that sends often its window, hashed again.
    busy: Vec<Option<Box<Compressor>>>,
    busy_max: usize,
    #[expect(clippy::vec_box, reason = "the boxes themselves move into connections and back")]
    inflaters: Vec<Box<Inflater>>,
    scratch: Vec<u8>,
    output: Vec<u8>,
}

impl Streams {
    pub(crate) fn new(settings: Settings) -> Self {
        let (busy_max, windows) = match settings.policy {
            Policy::Takeover { window_bits, budget_bytes } => {
                let compressor = Compressor::bytes(window_bits);
                let busy_max = (budget_bytes / 4 / compressor).min(BUSY_MAX);
                (busy_max, budget_bytes - busy_max * compressor)
            }
            Policy::Off | Policy::Shared => (0, 0),
        };
        Self {
            settings: Settings { level: settings.level.clamp(1, 9), ..settings },
            budget: Budget::new(windows),
            shared: Default::default(),
            busy: Vec::new(),
            busy_max,
            inflaters: Vec::new(),
            scratch: Vec::new(),
            output: Vec::new(),
        }
    }

    /// Frees what is made again when it is needed.
    pub(crate) fn trim(&mut self) {
        self.shared = Default::default();
        self.busy = Vec::new();
        self.inflaters = Vec::new();
        (self.scratch, self.output) = (Vec::new(), Vec::new());
    }

    /// Bytes that [`Streams::trim`] would free.
    pub(crate) fn bytes(&self) -> usize {
        let compressors = self.shared.iter().chain(&self.busy).flatten();
        let compressors: usize = compressors.map(|one| Compressor::bytes(one.bits())).sum();
        compressors
            + self.inflaters.len() * Inflater::BYTES
            + self.scratch.capacity()
            + self.output.capacity()
    }

    /// Compresses `input`, which is not empty, behind the bytes of `sent`, or by itself; the result, with
    /// the tail of a flush, is [`Streams::output`] as far as the length that is returned. `None` if it does
    /// not become shorter.
    pub(crate) fn compress(
        &mut self,
        input: &[u8],
        bits: WindowBits,
        sent: Option<&mut SentWindow>,
    ) -> Option<usize> {
        let index = usize::from(bits.get() - WindowBits::MIN.get());
        let place = match &sent {
            Some(sent) if self.busy_max > 0 => {
                self.busy.resize_with(self.busy_max, || None);
                &mut self.busy[(sent.id % self.busy_max as u64) as usize]
            }
            _ => &mut self.shared[index],
        };
        if place.as_ref().is_none_or(|other| other.bits() != bits) {
            *place = Some(Box::new(Compressor::new(self.settings.level, bits)));
        }
        let compressor = place.as_mut()?;
        match &sent {
            Some(sent) if compressor.seen == sent.id => {}
            Some(sent) => compressor.begin(sent.window.parts()),
            None => compressor.begin([&[]; 2]),
        }
        // It has seen what the peer will not see, unless it is sent.
        compressor.seen = 0;
        let Some(len) = compressor.compress(input, &mut self.output) else {
            *place = None;
            return None;
        };
        if len >= input.len() + TAIL.len() {
            self.shrink_output();
            return None;
        }
        if let Some(SentWindow { window, id }) = sent {
            compressor.seen = *id;
            window.push(input);
        }
        Some(len)
    }

    /// What was compressed last.
    pub(crate) fn output(&self) -> &[u8] {
        &self.output
    }

    /// Gives back what one large message needed.
    pub(crate) fn shrink_output(&mut self) {
        if self.output.len() > OUTPUT_BYTES_KEPT {
            self.output = Vec::new();
        }
    }

    pub(crate) fn take_inflater(&mut self) -> Box<Inflater> {
        self.inflaters.pop().unwrap_or_else(|| Box::new(Inflater::new()))
    }

    pub(crate) fn keep_inflater(&mut self, inflater: Box<Inflater>) {
        if self.inflaters.len() < INFLATERS_MAX {
            self.inflaters.push(inflater);
        }
    }

    /// Memory to inflate into, which is kept by [`Streams::keep_scratch`].
    pub(crate) fn take_scratch(&mut self) -> Vec<u8> {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.resize(SCRATCH_BYTES, 0);
        scratch
    }

    pub(crate) fn keep_scratch(&mut self, scratch: Vec<u8>) {
        self.scratch = scratch;
    }
}
