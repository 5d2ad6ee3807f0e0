"""Start the app from a checkout: `python app.py`. On a Hugging Face Space this file is the `app_file`."""

from ldm_explorer.app import main

if __name__ == "__main__":
    main()
