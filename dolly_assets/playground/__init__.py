"""The playground: a page in the browser to chat with models and to compare two of them.

It asks models through OpenAI's API, reads from the store what is known of them, and keeps votes as
a dataset of preferences. It loads no model, and needs neither Dagster nor the families' YAML.
Streamlit and openai are of the extra `playground`, and are imported when the page is served.

- `setup`: what the page works with: the models' server, the store, the votes.
- `client`: which models are served, and their answers, token by token.
- `streams`: the answers of two models at once.
- `conversation`: what was asked and answered, as models see it, and as JSON.
- `voting`: a vote on two answers as a preference.
- `cards`: what the store knows of a model: scores, licences, lineage, template.
- `safe_text`: answers as Markdown that loads and runs nothing.
- `app`: the page; `controls`: its sidebar; `chat`: turns and votes; `drawer`: a model's card.
- `server`: serves the page; `guard`: which hosts it answers as, and what pages may load.
"""
