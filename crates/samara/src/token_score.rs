//! What is said about the mask tokens of an answer, and which of them are shown.

use std::ops::Range;

use samara_image::Frame;

use crate::candidate_head::{CandidateFeatures, CandidateHead};
use crate::mask_tokens::MaskTokens;
use crate::prompt::Prompt;
use crate::score::{MatchProbability, PredictedIou};
use crate::segmenter::Segmenter;

/// What is said about the mask of one token.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TokenScore {
    pub(crate) predicted_iou: PredictedIou,
    pub(crate) match_probability: Option<MatchProbability>,
}

/// An answer of a segmenter to a prompt, looked at once.
pub(crate) struct TokenScores<'a> {
    segmenter: &'a Segmenter,
    answer: &'a MaskTokens,
    prompt: &'a Prompt,
    head: Option<(&'a CandidateHead, CandidateFeatures)>,
}

impl<'a> TokenScores<'a> {
    pub(crate) fn new(
        segmenter: &'a Segmenter,
        answer: &'a MaskTokens,
        prompt: &'a Prompt,
        frame: &Frame,
    ) -> Self {
        let head = segmenter.candidate_head();
        Self {
            segmenter,
            answer,
            prompt,
            head: head.map(|head| (head, CandidateFeatures::new(answer, prompt, frame))),
        }
    }

    /// The tokens that answer the prompt: the candidates of an ambiguous one, or the one that answers when a
    /// single mask is asked for. A candidate head chooses that one among all tokens.
    pub(crate) fn shown(&self) -> Range<usize> {
        if !self.prompt.single {
            return 1..self.answer.iou.len();
        }
        let token = match &self.head {
            Some((head, features)) => head.single_token(features, self.prompt.intent),
            None => self.answer.single(self.segmenter.config()),
        };
        token..token + 1
    }

    /// Scores of some tokens. Match probabilities add up to 1 over them; a token alone has none.
    pub(crate) fn of(&self, tokens: Range<usize>) -> Vec<TokenScore> {
        let Some((head, features)) = &self.head else {
            let score = |token| TokenScore {
                predicted_iou: self.segmenter.calibrated(token, self.answer.iou[token]),
                match_probability: None,
            };
            return tokens.map(score).collect();
        };
        let several = tokens.len() > 1;
        let probabilities =
            several.then(|| head.match_probabilities(features, tokens.clone(), self.prompt.intent));
        let score = |(i, token)| TokenScore {
            predicted_iou: self
                .segmenter
                .calibrated(token, head.predicted_iou(features, token)),
            match_probability: probabilities.as_ref().map(|p| p[i]),
        };
        tokens.clone().enumerate().map(score).collect()
    }
}
