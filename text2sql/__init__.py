"""What does specialising a language model for text-to-SQL gain, and what does it cost?

The library behind the pipeline in `dvc.yaml`: one subject a file, no DVC, no argv, no global state.
Data flows one way: data -> prompts -> models -> predictions -> scores -> comparison.
"""

__version__ = "0.1.0"
