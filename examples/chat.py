"""An ordinary script that talks to three providers: llm_toll_autopatch/demo.py, where installed packages have it too.

Against a simulator on this machine, `autotoll demo`. To talk to the real services, with your own keys, run this file.
"""

from llm_toll_autopatch.demo import main

main()
