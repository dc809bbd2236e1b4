"""Predictions: the first shows its prompt as the model read it."""

from testkit.tiny_models import write_tiny_model
from testkit.train_once import model_params
from text2sql.core.dependencies import Key
from text2sql.core.journal import Journal
from text2sql.core.params import GenerationParams
from text2sql.evaluation.batching import JournaledRun
from text2sql.evaluation.spider import SpiderPrompt, predict
from text2sql.model.language_model import LanguageModel


def test_the_first_prediction_shows_what_the_template_and_its_variables_added(tmp_path):
    def own_system_prompt(tokenizer):
        tokenizer.chat_template = (
            "{{ '<|im_start|>system\nYou are Qwen, ' + manner + '.<|im_end|>\n' }}"
            "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
            "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
        )

    base = write_tiny_model(tmp_path / "base", change=own_system_prompt)
    model = LanguageModel(model_params(base), template={"manner": "at night"})
    examples = [{"index": i, "db_id": "x", "question": f"Number {i}?", "query": "SELECT 1"} for i in range(3)]
    run = JournaledRun(Journal("predict", Key.of({}), folder=tmp_path / "journals"), "predict")
    generation = GenerationParams(max_new_tokens=3, batch_size=2)
    first, *rest = predict(model, examples, SpiderPrompt({}, "none", []), generation, run)
    assert first["prompt"] == (
        "<|im_start|>system\nYou are Qwen, at night.<|im_end|>\n<|im_start|>user\nNumber 0?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    assert not any("prompt" in prediction for prediction in rest)
