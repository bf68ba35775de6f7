"""Several processes that train one model: what each holds, and how their steps become one; records nothing itself."""
